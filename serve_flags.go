//go:build linux

package main

import "time"

// serverCommands are those of who runs servers, which takes Linux.
type serverCommands struct {
	Serve serveCmd `cmd:"" help:"Serve clients."`
	Key   keyCmd   `cmd:"" help:"Print a new key for the nodes of a cluster."`
	Token tokenCmd `cmd:"" help:"Keep the files of accounts and keys: add, remove, list, key, sign."`
}

type serveCmd struct {
	Listen   []string      `placeholder:"ADDR" default:"127.0.0.1:7400" env:"TIMEDGE_LISTEN" help:"${listenHelp} (${default})."`
	Admin    string        `placeholder:"ADDR" default:"127.0.0.1:7401" env:"TIMEDGE_ADMIN" help:"${adminHelp} (${default})."`
	Node     string        `placeholder:"NAME" env:"TIMEDGE_NODE" help:"The node's name, unique in a cluster (the host's; in a cluster with the port)."`
	Loops    int           `placeholder:"N" env:"TIMEDGE_LOOPS" help:"Event loops (one per processor)."`
	Idle     time.Duration `placeholder:"TIME" default:"5m" env:"TIMEDGE_IDLE" help:"A room ends so long after its last push (${default})."`
	Payload  size          `placeholder:"SIZE" default:"16MiB" env:"TIMEDGE_PAYLOAD" help:"The largest payload (${default})."`
	Queue    size          `placeholder:"SIZE" default:"4MiB" env:"TIMEDGE_QUEUE" help:"${queueHelp} (${default})."`
	QueueAge time.Duration `placeholder:"TIME" default:"2s" env:"TIMEDGE_QUEUE_AGE" help:"How old that may be (${default})."`
	Stall    time.Duration `placeholder:"TIME" default:"10s" env:"TIMEDGE_STALL" help:"${stallHelp} (${default})."`
	Conns    int           `placeholder:"N" env:"TIMEDGE_CONNS" help:"Connections at once (20000, or as the system allows)."`
	Memory   size          `placeholder:"SIZE" default:"1GiB" env:"TIMEDGE_MEMORY" help:"${memoryHelp} (${default})."`
	Drain    time.Duration `placeholder:"TIME" default:"10s" env:"TIMEDGE_DRAIN" help:"How long ending may take (${default})."`
	Auth     string        `placeholder:"HOW" default:"open" env:"TIMEDGE_AUTH" help:"${authHelp} (${default})."`
	clusterFlags
	tlsFlags
	timFlags
	TokenWarning time.Duration `placeholder:"TIME" default:"1m" env:"TIMEDGE_TOKEN_WARNING" help:"${warningHelp} (${default})."`
	Limits       limitFlags    `embed:"" prefix:"limit-"`
	Insecure     bool          `name:"insecure-open" env:"TIMEDGE_INSECURE_OPEN" help:"Let --auth open listen beyond loopback."`
	LogLevel     string        `placeholder:"LEVEL" default:"info" enum:"${levels}" env:"TIMEDGE_LOG_LEVEL" help:"${enum} (${default})."`
}

// tlsFlags are the server's listeners that are not plain TCP, and what they need.
type tlsFlags struct {
	ListenTLS []string `name:"listen-tls" placeholder:"ADDR" env:"TIMEDGE_LISTEN_TLS" help:"Where clients connect with TLS 1.3 (nowhere)."`
	ListenWS  []string `name:"listen-ws" placeholder:"ADDR" env:"TIMEDGE_LISTEN_WS" help:"Where clients connect by WebSocket (nowhere)."`
	ListenWSS []string `name:"listen-wss" placeholder:"ADDR" env:"TIMEDGE_LISTEN_WSS" help:"Where clients connect by WebSocket within TLS 1.3 (nowhere)."`
	TimTLS    []string `name:"tim-tls" placeholder:"ADDR" env:"TIMEDGE_TIM_TLS" help:"Where clients of tim connect with TLS 1.3 (nowhere)."`
	Cert      string   `name:"tls-cert" placeholder:"FILE" env:"TIMEDGE_TLS_CERT" help:"The server's certificate, in PEM; taken up when it changes."`
	Key       string   `name:"tls-key" placeholder:"FILE" env:"TIMEDGE_TLS_KEY" help:"The certificate's key, in PEM."`
	ClientCA  string   `name:"tls-client-ca" placeholder:"FILE" env:"TIMEDGE_TLS_CLIENT_CA" help:"${clientCAHelp}."`
	ProxyFrom []prefix `name:"proxy-from" placeholder:"NETWORK" env:"TIMEDGE_PROXY_FROM" help:"${proxyHelp}."`
	Origins   []string `name:"ws-origin" placeholder:"ORIGIN" env:"TIMEDGE_WS_ORIGIN" help:"${originHelp}."`
}
