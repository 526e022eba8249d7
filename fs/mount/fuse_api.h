// libfuse's low-level API, at the version this daemon is written for.
#pragma once

#define FUSE_USE_VERSION FUSE_MAKE_VERSION(3, 17)
#include <fuse_lowlevel.h>
