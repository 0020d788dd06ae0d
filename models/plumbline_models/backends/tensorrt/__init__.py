"""TensorRT, both packages of it: graphs to plans, plans to engines."""
