/* gRPC is not instrumented: what happens before what by way of it is told to ThreadSanitizer here,
 * by an address that both sides know. */
#ifndef PARLEY_CONTROL_TSAN_H
#define PARLEY_CONTROL_TSAN_H

#if defined(__SANITIZE_THREAD__)
#define TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TSAN 1
#endif
#endif

#ifdef TSAN
void __tsan_release(void *address);
void __tsan_acquire(void *address);
#define tsan_release __tsan_release
#define tsan_acquire __tsan_acquire
#else
#define tsan_release(address) ((void)(address))
#define tsan_acquire(address) ((void)(address))
#endif

#endif
