"""What each setting does to accuracy, and how far the generated scenes go without a picture."""
