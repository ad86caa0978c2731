# CMake generated Testfile for 
# Source directory: /work/wt/attention
# Build directory: /work/wt/attention/build-san
# 
# This file includes the relevant testing commands required for 
# testing this directory and lists subdirectories to be tested as well.
subdirs("tests/native")
