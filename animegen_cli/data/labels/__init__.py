"""Labels of pictures: class folders, tables, tags and captions, other data set files."""
