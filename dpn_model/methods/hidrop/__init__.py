"""HiDrop: visual tokens bypass the first layers, are filtered in the middle and leave before the last (2602.23699)."""
