// Package report turns results into what people and programs read: a progress bar, a plain summary, JSON, Go benchmark
// lines, and an HTML page that loads nothing from outside.
package report
