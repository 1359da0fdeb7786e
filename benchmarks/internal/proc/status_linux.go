package proc

import (
	"bytes"
	"os"
	"strconv"
)

// PeakResident returns the most memory that was resident since the process began,
// that of files too.
func PeakResident() uint64 { return status("VmHWM:") }

// Resident returns what is resident now, counted as PeakResident does.
func Resident() uint64 { return status("VmRSS:") }

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
