"""What is typed behind `frozen-vqa`: commands, options, their help, and what the words become.

Each command calls one function and prints the result. Our own modules are imported late, because
torch alone takes seconds and `--help` should not.
"""
