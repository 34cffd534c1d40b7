"""What guests reach in the host: the functions of ``extism:host/env`` that are not the kernel's, and the user's own."""
