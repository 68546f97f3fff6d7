"""What emulators and models of processors say of programs for boards."""
