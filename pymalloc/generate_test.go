package pymalloc

import (
	"bytes"
	"os"
	"os/exec"
	"testing"
)

//go:generate go run generate.go

// fast.go is what fast.tmpl makes.
func TestFastPathsAreGenerated(t *testing.T) {
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("no go command")
	}
	cmd := exec.Command(goTool, "run", "generate.go", "-")
	cmd.Env = append(os.Environ(), "GOOS=", "GOARCH=", "GOFLAGS=")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	want, err := cmd.Output()
	if err != nil {
		t.Fatalf("go run generate.go: %v\n%s", err, errs.Bytes())
	}
	got, err := os.ReadFile("fast.go")
	if err != nil {
		t.Fatal(err)
	}
	got = bytes.ReplaceAll(got, []byte("\r\n"), []byte("\n")) // as git may check it out
	if !bytes.Equal(got, want) {
		t.Error("fast.go is not what fast.tmpl makes: run go generate ./pymalloc")
	}
}
