"""The page to play with: runs, faces, walks and pictures in a browser on this machine. Needs the extra `animegen[ui]`."""
