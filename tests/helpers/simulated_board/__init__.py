"""A board that is made up: the files, programs and answers of a real one's release, in a folder, for this machine to run.

Nothing here was seen on a board by this project: flags, formats and files are those of NVIDIA's sources and of public
logs. Engines are run by ONNX Runtime or OpenCV on this machine's CPU, so times are real, and are no board's.
"""
