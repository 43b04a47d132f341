"""The command `detect`: photos, folders, videos and cameras in, results out."""
