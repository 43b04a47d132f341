"""The inbox: photos with boxes, and what people and a model propose for it, as Pascal VOC."""
