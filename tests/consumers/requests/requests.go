// Package requests has what the pairs of grpc-go share: a service that says whose certificate it
// saw, and a client that asks it for ever, by a new connection each time.
package requests

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// In this header the service says which certificate the client showed.
const clientSerial = "x-client-serial"

type service struct{ *health.Server }

func (s service) Check(ctx context.Context, request *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	from, _ := peer.FromContext(ctx)
	serial, err := serialOf(from)
	if err != nil {
		return nil, err
	}
	if err := grpc.SetHeader(ctx, metadata.Pairs(clientSerial, serial)); err != nil {
		return nil, err
	}
	return s.Server.Check(ctx, request)
}

// Server is what grpc.Server and xds.GRPCServer have in common.
type Server interface {
	grpc.ServiceRegistrar
	Serve(net.Listener) error
}

// Serve answers health checks at an address until it fails.
func Serve(server Server, address string) error {
	grpc_health_v1.RegisterHealthServer(server, service{health.NewServer()})
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return server.Serve(listener)
}

// Forever asks five times a second, and prints a line for each request, as count.py wants them.
func Forever(dial func() (*grpc.ClientConn, error)) {
	for range time.Tick(200 * time.Millisecond) {
		if seen, err := once(dial); err != nil {
			fmt.Println("failed", strings.ReplaceAll(err.Error(), "\n", " "))
		} else {
			fmt.Println("ok", seen)
		}
	}
}

func once(dial func() (*grpc.ClientConn, error)) (string, error) {
	connection, err := dial()
	if err != nil {
		return "", err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var server peer.Peer
	var header metadata.MD
	_, err = grpc_health_v1.NewHealthClient(connection).Check(ctx, &grpc_health_v1.HealthCheckRequest{},
		grpc.Peer(&server), grpc.Header(&header))
	if err != nil {
		return "", err
	}
	serial, err := serialOf(&server)
	if err != nil {
		return "", err
	}
	if len(header[clientSerial]) != 1 {
		return "", errors.New("the server did not say whose certificate it saw")
	}
	return "server=" + serial + " client=" + header[clientSerial][0], nil
}

func serialOf(from *peer.Peer) (string, error) {
	info, isTLS := from.AuthInfo.(credentials.TLSInfo)
	if !isTLS || len(info.State.PeerCertificates) == 0 {
		return "", fmt.Errorf("no certificate of the peer: %T", from.AuthInfo)
	}
	return fmt.Sprintf("%x", info.State.PeerCertificates[0].SerialNumber), nil
}
