/* sys/spin.h - the one instruction of a busy wait: frees the core's other thread, saves power. */
#ifndef LONGSPAN_SYS_SPIN_H
#define LONGSPAN_SYS_SPIN_H

static inline void spin_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#else
    __asm__ __volatile__("" ::: "memory");
#endif
}

#endif
