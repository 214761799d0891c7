# Writes version.c when something changed: run by every build, so that a program names the commit it was built from.
execute_process(COMMAND git describe --always --dirty=+ --abbrev=8 --exclude=* WORKING_DIRECTORY ${SOURCE}
                OUTPUT_VARIABLE commit ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
configure_file(${SOURCE}/agent/version.c.in ${OUTPUT} @ONLY)
