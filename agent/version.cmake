# Writes version.c when something changed: run by every build, so that a program names the commit it was built from.
execute_process(COMMAND git describe --always --dirty=+ --abbrev=8 --exclude=* WORKING_DIRECTORY ${SOURCE}
                OUTPUT_VARIABLE commit ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
set(text "#include \"agent/version.h\"\n\nconst char m4n_version[] = \"${VERSION}\";\nconst char m4n_commit[] = \"${commit}\";\n")
if(EXISTS ${OUTPUT})
  file(READ ${OUTPUT} before)
endif()
if(NOT "${before}" STREQUAL "${text}")
  file(WRITE ${OUTPUT} "${text}")
endif()
