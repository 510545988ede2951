/* Hides instruction sets from the libraries of one process, so that it runs as it would on another CPU.
 *
 * Linux on x86-64 whose CPU can trap CPUID (flag cpuid_fault). gcc -shared -fPIC -O2 -o other_cpu.so other_cpu.c;
 * LD_PRELOAD=./other_cpu.so HIDDEN="EBX7 ECX7 EDX7 EAX7.1 EDX7.1" (bits to clear, hexadecimal) program.
 * Source: arch_prctl(2), ARCH_SET_CPUID; Intel SDM vol. 2A, CPUID leaf 7. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>
#define ARCH_SET_CPUID 0x1012

static unsigned hidden[5];

static void on_fault(int number, siginfo_t *info, void *context) {
  greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
  const unsigned char *code = (const unsigned char *)r[REG_RIP];
  if (code[0] != 0x0f || code[1] != 0xa2) { /* a fault of another kind */
    signal(number, SIG_DFL);
    return;
  }
  unsigned leaf = r[REG_RAX], part = r[REG_RCX], a, b, c, d;
  syscall(SYS_arch_prctl, ARCH_SET_CPUID, 1UL);
  __asm__ volatile("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(leaf), "c"(part));
  syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0UL);
  if (leaf == 7 && part == 0) b &= ~hidden[0], c &= ~hidden[1], d &= ~hidden[2];
  if (leaf == 7 && part == 1) a &= ~hidden[3], d &= ~hidden[4];
  r[REG_RAX] = a, r[REG_RBX] = b, r[REG_RCX] = c, r[REG_RDX] = d, r[REG_RIP] += 2;
}

__attribute__((constructor)) static void hide(void) {
  const char *bits = getenv("HIDDEN");
  struct sigaction action;
  if (!bits || sscanf(bits, "%x %x %x %x %x", hidden, hidden + 1, hidden + 2, hidden + 3, hidden + 4) != 5)
    return;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigaction(SIGSEGV, &action, NULL);
  if (syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0UL)) {
    fputs("This CPU cannot hide what it is.\n", stderr);
    _exit(3);
  }
}
