module github.com/timedge/timedge

go 1.26
