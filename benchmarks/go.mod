module github.com/pyarena/pyarena/benchmarks

go 1.26.0

replace github.com/pyarena/pyarena => ../

require (
	github.com/dustin/go-humanize v1.1.0
	github.com/pyarena/pyarena v0.0.0-00010101000000-000000000000
	go.uber.org/goleak v1.3.0
	modernc.org/memory v1.12.1
)

require golang.org/x/sys v0.49.0 // indirect
