"""Files read with distrust: images, archives, databases and tables, before they are samples."""
