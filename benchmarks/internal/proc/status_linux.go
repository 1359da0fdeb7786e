package proc

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// PeakResident returns the most memory that was resident since the process began,
// that of files too.
func PeakResident() uint64 { return status("VmHWM:") }

// Resident returns what is resident now, counted as PeakResident does.
func Resident() uint64 { return status("VmRSS:") }

// BringIn makes resident what is mapped of files: the program, which the system would
// else read in piece by piece while the program runs, in a count of what a workload takes.
// It does nothing where the system cannot (before Linux 5.14).
func BringIn() {
	b, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	for line := range bytes.Lines(b) {
		if begin, end, ok := parseMapping(string(line)); ok {
			_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, begin, end-begin, populateRead)
		}
	}
}

const populateRead = 22 // MADV_POPULATE_READ

// parseMapping reads a line of /proc/self/maps: the range, if it is of a file.
func parseMapping(line string) (begin, end uintptr, ok bool) {
	fields := strings.Fields(line) // range, rights, offset, device, inode, path
	if len(fields) < 6 || !strings.HasPrefix(fields[5], "/") {
		return 0, 0, false
	}
	from, to, _ := strings.Cut(fields[0], "-")
	b, err1 := strconv.ParseUint(from, 16, 64)
	e, err2 := strconv.ParseUint(to, 16, 64)
	return uintptr(b), uintptr(e), err1 == nil && err2 == nil && b < e
}

func status(field string) uint64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(b) {
		if rest, ok := bytes.CutPrefix(line, []byte(field)); ok {
			kib, _, _ := bytes.Cut(bytes.TrimSpace(rest), []byte(" "))
			n, _ := strconv.ParseUint(string(kib), 10, 64)
			return n * 1024
		}
	}
	return 0
}

// NoReserve returns what is resident of mappings that are not counted against the
// system's limit (MAP_NORESERVE): osmem's, and some KiB of the C library's. The
// Go runtime maps nothing that way, so this tells the two apart.
func NoReserve() uint64 {
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return 0
	}
	defer f.Close()
	return noReserve(f)
}

// noReserve reads the mappings: of each an address, figures in kB, and flags.
func noReserve(smaps io.Reader) (sum uint64) {
	var resident uint64
	for in := bufio.NewScanner(smaps); in.Scan(); {
		switch fields := strings.Fields(in.Text()); {
		case len(fields) == 3 && fields[0] == "Rss:":
			resident, _ = strconv.ParseUint(fields[1], 10, 64)
		case len(fields) > 0 && fields[0] == "VmFlags:" && slices.Contains(fields, "nr"):
			sum += resident * 1024
		}
	}
	return sum
}

// CPU returns the name of the processor.
func CPU() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return unknownCPU
	}
	for line := range bytes.Lines(b) {
		if name, value, ok := bytes.Cut(line, []byte(":")); ok && string(bytes.TrimSpace(name)) == "model name" {
			return string(bytes.TrimSpace(value))
		}
	}
	return unknownCPU
}
