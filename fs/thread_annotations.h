// What clang's -Wthread-safety reads; nothing for other compilers.
#pragma once

#if defined(__clang__)
#define KVFS_ANNOTATION(x) __attribute__((x))
#else
#define KVFS_ANNOTATION(x)
#endif

#define CAPABILITY(name) KVFS_ANNOTATION(capability(name))
#define SCOPED_CAPABILITY KVFS_ANNOTATION(scoped_lockable)
#define GUARDED_BY(mutex) KVFS_ANNOTATION(guarded_by(mutex))
#define PT_GUARDED_BY(mutex) KVFS_ANNOTATION(pt_guarded_by(mutex))
#define REQUIRES(...) KVFS_ANNOTATION(requires_capability(__VA_ARGS__))
#define EXCLUDES(...) KVFS_ANNOTATION(locks_excluded(__VA_ARGS__))
#define ACQUIRE(...) KVFS_ANNOTATION(acquire_capability(__VA_ARGS__))
#define RELEASE(...) KVFS_ANNOTATION(release_capability(__VA_ARGS__))
#define ASSERT_CAPABILITY(mutex) KVFS_ANNOTATION(assert_capability(mutex))
#define NO_THREAD_SAFETY_ANALYSIS KVFS_ANNOTATION(no_thread_safety_analysis)
