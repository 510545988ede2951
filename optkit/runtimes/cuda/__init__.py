"""What optkit knows of NVIDIA GPUs: probing the driver, memory and streams, clocks and power."""
