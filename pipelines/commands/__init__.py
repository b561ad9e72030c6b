"""The commands of `rapport`, one module a subject. A command reads its arguments, calls one function and prints what came back."""
