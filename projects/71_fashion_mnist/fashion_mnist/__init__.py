"""fashion_mnist: classifiers of garments, looked into from all sides, and handed to Houdini."""
