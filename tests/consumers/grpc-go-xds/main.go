// A proxyless pair of grpc-go: TLS, identities and authorisation come from the xDS control plane, and
// the certificates from the files that the bootstrap's provider names.
//
//	GRPC_XDS_BOOTSTRAP=FILE grpc-go-xds server ADDRESS
//	GRPC_XDS_BOOTSTRAP=FILE grpc-go-xds client TARGET
package main

import (
	"log"
	"os"

	"certagent/consumers/requests"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	xdscreds "google.golang.org/grpc/credentials/xds"
	"google.golang.org/grpc/xds"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: grpc-go-xds server ADDRESS | grpc-go-xds client TARGET")
	}
	switch os.Args[1] {
	case "server":
		log.Fatal(serve(os.Args[2]))
	case "client":
		requests.Forever(func() (*grpc.ClientConn, error) { return dial(os.Args[2]) })
	}
}

func serve(address string) error {
	creds, err := xdscreds.NewServerCredentials(xdscreds.ServerOptions{FallbackCreds: insecure.NewCredentials()})
	if err != nil {
		return err
	}
	server, err := xds.NewGRPCServer(grpc.Creds(creds))
	if err != nil {
		return err
	}
	return requests.Serve(server, address)
}

func dial(target string) (*grpc.ClientConn, error) {
	creds, err := xdscreds.NewClientCredentials(xdscreds.ClientOptions{FallbackCreds: insecure.NewCredentials()})
	if err != nil {
		return nil, err
	}
	return grpc.NewClient(target, grpc.WithTransportCredentials(creds))
}
