package fuzz

import (
	"bufio"
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// child returns this program, to run the test of that name as a child.
func child(test, dir string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], "-test.run=^"+test+"$")
	cmd.Env = append(os.Environ(), childEnv+"=1", "TMPDIR="+dir)
	cmd.Dir = dir
	return cmd
}

const childEnv = "PYARENA_TEST_CHILD"

// sharedNames returns the names of what outlives a process: shared memory and
// semaphores of System V and of POSIX.
func sharedNames(t *testing.T) string {
	t.Helper()
	names, _ := filepath.Glob("/dev/shm/*")
	for _, table := range []string{"shm", "sem", "msg"} {
		b, _ := os.ReadFile("/proc/sysvipc/" + table)
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) > 1 {
				names = append(names, table+" "+f[0]+" "+f[1])
			}
		}
	}
	return strings.Join(names, "\n")
}

// A process that is killed at any moment leaves nothing: all of its memory is
// private, and it has no file. This process and the next child go on.
func TestKilled(t *testing.T) {
	if os.Getenv(childEnv) != "" {
		l := startLoad(4)
		os.Stdout.WriteString("ready\n")
		_, _ = os.Stdin.Read(make([]byte, 1)) // until it is closed
		if err := l.end(); err != nil {
			t.Fatal(err)
		}
		return
	}
	dir := t.TempDir()
	before := sharedNames(t)
	l := startLoad(2)
	defer l.stop.Store(true)
	kills := 20
	if testing.Short() {
		kills = 5
	}
	r := rand.New(rand.NewPCG(1, 9))
	for i := range kills + 1 {
		cmd := child("TestKilled", dir)
		in, _ := cmd.StdinPipe()
		out, _ := cmd.StdoutPipe()
		if err := cmd.Start(); err != nil {
			t.Skip(err) // an emulator runs this program, and not its children
		}
		if i%4 != 3 { // one in four is killed as it begins
			if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
				t.Errorf("child %d says %q, %v", i, line, err)
			}
			maps, _ := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/maps")
			for line := range strings.Lines(string(maps)) {
				if f := strings.Fields(line); len(f) > 1 && strings.HasSuffix(f[1], "s") {
					t.Errorf("memory is shared: %s", line)
				}
			}
		}
		if i == kills { // the last one ends well
			in.Close()
			if err := cmd.Wait(); err != nil {
				t.Errorf("the child after the killed ones: %v", err)
			}
			break
		}
		time.Sleep(time.Duration(r.IntN(20_000)) * time.Microsecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err == nil {
			t.Errorf("child %d ended before it was killed", i)
		}
	}
	if err := l.end(); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("the children left %v", left)
	}
	if after := sharedNames(t); after != before {
		t.Errorf("shared objects before:\n%s\nafter:\n%s", before, after)
	}
}

// Children that are forked and run another program beside a load: they give the
// right answer, and have none of our memory.
func TestExec(t *testing.T) {
	if at := os.Getenv(childEnv); at != "" {
		addr, _ := strconv.ParseInt(at, 16, 64)
		mem, err := os.Open("/proc/self/mem")
		if err != nil {
			t.Skip(err)
		}
		defer mem.Close()
		got, want := make([]byte, 4096), bytes.Repeat([]byte{0xe7}, 4096)
		if n, _ := mem.ReadAt(got, addr); bytes.Equal(got[:n], want) {
			t.Errorf("the parent's block at %s is here", at)
		}
		return
	}
	disturb(t, func(r *rand.Rand) {
		text := strings.Repeat("pyarena ", 1+r.IntN(5000))
		cmd := exec.Command("cat")
		cmd.Stdin = strings.NewReader(text)
		if out, err := cmd.Output(); err != nil || string(out) != text {
			t.Errorf("cat of %d bytes: %d bytes, %v", len(text), len(out), err)
		}
	})
	l := startLoad(2)
	p, err := l.a.UnsafeMalloc(4096)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4096 {
		(block{p: p, size: 4096}).bytes()[i] = 0xe7
	}
	cmd := child("TestExec", t.TempDir())
	cmd.Env = append(cmd.Env, childEnv+"="+strconv.FormatUint(uint64(uintptr(p)), 16))
	switch out, err := cmd.CombinedOutput(); {
	case errors.Is(err, syscall.ENOEXEC):
		t.Log("an emulator runs this program, and not its children")
	case err != nil:
		t.Errorf("%v\n%s", err, out)
	}
	if err := l.a.UnsafeFree(p); err != nil {
		t.Error(err)
	}
	if err := l.end(); err != nil {
		t.Error(err)
	}
}

// A profiling signal a thousand times a second.
func TestProfilingSignal(t *testing.T) {
	runtime.SetCPUProfileRate(1000) // the next line says that it cannot change it
	var profile bytes.Buffer
	if err := pprof.StartCPUProfile(&profile); err != nil {
		t.Skip(err) // this run is profiled itself
	}
	disturb(t, func(*rand.Rand) { runtime.GC() })
	pprof.StopCPUProfile()
	if profile.Len() == 0 {
		t.Error("there is no profile")
	}
}

// A storm of the signals that the runtime preempts goroutines with, to the
// process and to each of its threads, while the collector stops the world.
func TestPreemptionSignals(t *testing.T) {
	got := make(chan os.Signal, 1)
	signal.Notify(got, syscall.SIGURG)
	defer signal.Stop(got)
	pid := os.Getpid()
	sent := 0
	disturb(t, func(r *rand.Rand) {
		if r.IntN(20) == 0 {
			runtime.GC()
		}
		_ = unix.Kill(pid, unix.SIGURG)
		tasks, _ := os.ReadDir("/proc/self/task")
		for _, task := range tasks {
			tid, _ := strconv.Atoi(task.Name())
			if unix.Tgkill(pid, tid, unix.SIGURG) == nil { // it may be gone
				sent++
			}
		}
	})
	select {
	case <-got:
	default:
		t.Errorf("%d signals were sent to threads, and none arrived", sent)
	}
}
