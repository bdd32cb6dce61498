"""`animegen prepare`: pictures in folders and archives, and their labels, become one data set file."""
