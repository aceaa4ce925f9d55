"""Labels as annotation tools write them: polygons, run lengths and tables, read as data sets and written again."""
