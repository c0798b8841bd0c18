"""A classifier's predictions as geometry: `predictions.npz` into .geo, .usda, .csv and .png."""
