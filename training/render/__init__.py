"""Blood smears drawn by a program: photos with exact boxes, without a data set."""
