# CMake generated Testfile for 
# Source directory: /work/wt/attention/tests/native
# Build directory: /work/wt/attention/build-san/tests/native
# 
# This file includes the relevant testing commands required for 
# testing this directory and lists subdirectories to be tested as well.
add_test([=[attention_full_test]=] "/work/wt/attention/build-san/tests/native/attention_full_test")
set_tests_properties([=[attention_full_test]=] PROPERTIES  SKIP_RETURN_CODE "77" TIMEOUT "600" WORKING_DIRECTORY "/work/wt/attention" _BACKTRACE_TRIPLES "/work/wt/attention/tests/native/CMakeLists.txt;3;add_test;/work/wt/attention/tests/native/CMakeLists.txt;12;kcache_test;/work/wt/attention/tests/native/CMakeLists.txt;0;")
add_test([=[attention_mix_test]=] "/work/wt/attention/build-san/tests/native/attention_mix_test")
set_tests_properties([=[attention_mix_test]=] PROPERTIES  SKIP_RETURN_CODE "77" TIMEOUT "600" WORKING_DIRECTORY "/work/wt/attention" _BACKTRACE_TRIPLES "/work/wt/attention/tests/native/CMakeLists.txt;3;add_test;/work/wt/attention/tests/native/CMakeLists.txt;12;kcache_test;/work/wt/attention/tests/native/CMakeLists.txt;0;")
add_test([=[attention_score_test]=] "/work/wt/attention/build-san/tests/native/attention_score_test")
set_tests_properties([=[attention_score_test]=] PROPERTIES  SKIP_RETURN_CODE "77" TIMEOUT "600" WORKING_DIRECTORY "/work/wt/attention" _BACKTRACE_TRIPLES "/work/wt/attention/tests/native/CMakeLists.txt;3;add_test;/work/wt/attention/tests/native/CMakeLists.txt;12;kcache_test;/work/wt/attention/tests/native/CMakeLists.txt;0;")
add_test([=[parallel_test]=] "/work/wt/attention/build-san/tests/native/parallel_test")
set_tests_properties([=[parallel_test]=] PROPERTIES  SKIP_RETURN_CODE "77" TIMEOUT "600" WORKING_DIRECTORY "/work/wt/attention" _BACKTRACE_TRIPLES "/work/wt/attention/tests/native/CMakeLists.txt;3;add_test;/work/wt/attention/tests/native/CMakeLists.txt;12;kcache_test;/work/wt/attention/tests/native/CMakeLists.txt;0;")
add_test([=[row_restore_test]=] "/work/wt/attention/build-san/tests/native/row_restore_test")
set_tests_properties([=[row_restore_test]=] PROPERTIES  SKIP_RETURN_CODE "77" TIMEOUT "600" WORKING_DIRECTORY "/work/wt/attention" _BACKTRACE_TRIPLES "/work/wt/attention/tests/native/CMakeLists.txt;3;add_test;/work/wt/attention/tests/native/CMakeLists.txt;12;kcache_test;/work/wt/attention/tests/native/CMakeLists.txt;0;")
add_test([=[select_topn_test]=] "/work/wt/attention/build-san/tests/native/select_topn_test")
set_tests_properties([=[select_topn_test]=] PROPERTIES  SKIP_RETURN_CODE "77" TIMEOUT "600" WORKING_DIRECTORY "/work/wt/attention" _BACKTRACE_TRIPLES "/work/wt/attention/tests/native/CMakeLists.txt;3;add_test;/work/wt/attention/tests/native/CMakeLists.txt;12;kcache_test;/work/wt/attention/tests/native/CMakeLists.txt;0;")
