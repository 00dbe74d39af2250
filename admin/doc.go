// Package admin is what operators see of a server and do with it: an HTTP API of JSON under /api/v1, beside the health
// pages and metrics that the engine serves. openapi.json describes it; a test holds the two together.
//
// Start at [New]. What a server knows and can do it says by [Server]; engine and the command line fill it. Handlers run
// on the HTTP server's goroutines, and nothing here is shared between them but what New was given.
//
// Who may: anybody on this machine reads (a request from a loopback address that no browser's page of another origin
// has made); everything else needs the bearer token. Nothing is changed by GET. See access.go.
package admin
