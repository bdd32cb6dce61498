"""Pictures -> pictures: photo to anime and back, reconstruction, denoising."""
