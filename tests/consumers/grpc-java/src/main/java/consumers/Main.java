package consumers;

import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptors;
import io.grpc.ForwardingServerCall.SimpleForwardingServerCall;
import io.grpc.Grpc;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsChannelCredentials;
import io.grpc.TlsServerCredentials;
import io.grpc.health.v1.HealthCheckRequest;
import io.grpc.health.v1.HealthCheckResponse;
import io.grpc.health.v1.HealthGrpc;
import io.grpc.protobuf.services.HealthStatusManager;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.MetadataUtils;
import java.io.File;
import java.security.cert.X509Certificate;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import javax.net.ssl.SSLPeerUnverifiedException;
import javax.net.ssl.SSLSession;

/**
 * A server and a client with mTLS, on a volume each. The client asks for ever, by a new connection
 * each time, and prints a line for each request, as count.py wants them.
 *
 * <p>Arguments: SERVER_VOLUME CLIENT_VOLUME
 */
public final class Main {
  private static final String ID = "spiffe://demo-project.svc.id.goog/ns/default/sa/";
  /** In this header the server says which certificate the client showed. */
  private static final Metadata.Key<String> CLIENT_SERIAL =
      Metadata.Key.of("x-client-serial", Metadata.ASCII_STRING_MARSHALLER);

  public static void main(String[] arguments) throws Exception {
    ScheduledExecutorService executor = Executors.newScheduledThreadPool(1);
    Volume serverVolume = new Volume(new File(arguments[0]), executor);
    Volume clientVolume = new Volume(new File(arguments[1]), executor);

    Server server = Grpc.newServerBuilderForPort(0, TlsServerCredentials.newBuilder()
            .keyManager(serverVolume.keyManager())
            .trustManager(serverVolume.trustManager(ID + "client"))
            .clientAuth(TlsServerCredentials.ClientAuth.REQUIRE)
            .build())
        .addService(new HealthStatusManager().getHealthService())
        .intercept(new SayWhoCalled())
        .build()
        .start();

    var credentials = TlsChannelCredentials.newBuilder()
        .keyManager(clientVolume.keyManager())
        .trustManager(clientVolume.trustManager(ID + "server"))
        .build();
    while (true) {
      ManagedChannel channel =
          Grpc.newChannelBuilder("127.0.0.1:" + server.getPort(), credentials).build();
      try {
        System.out.println("ok " + request(channel));
      } catch (StatusRuntimeException error) {
        System.out.println("failed " + why(error).replace('\n', ' '));
      } finally {
        channel.shutdownNow();
      }
      Thread.sleep(200);
    }
  }

  private static String request(ManagedChannel channel) throws SSLPeerUnverifiedException {
    AtomicReference<Metadata> headers = new AtomicReference<>();
    AtomicReference<Metadata> trailers = new AtomicReference<>();
    Channel capturing = ClientInterceptors.intercept(
        channel, MetadataUtils.newCaptureMetadataInterceptor(headers, trailers));
    ClientCall<HealthCheckRequest, HealthCheckResponse> call = capturing.newCall(
        HealthGrpc.getCheckMethod(), CallOptions.DEFAULT.withDeadlineAfter(5, TimeUnit.SECONDS));
    ClientCalls.blockingUnaryCall(call, HealthCheckRequest.getDefaultInstance());
    return "server=" + peerSerial(call.getAttributes().get(Grpc.TRANSPORT_ATTR_SSL_SESSION))
        + " client=" + headers.get().get(CLIENT_SERIAL);
  }

  private static final class SayWhoCalled implements ServerInterceptor {
    @Override
    public <Q, A> ServerCall.Listener<Q> interceptCall(
        ServerCall<Q, A> call, Metadata request, ServerCallHandler<Q, A> next) {
      return next.startCall(new SimpleForwardingServerCall<Q, A>(call) {
        @Override
        public void sendHeaders(Metadata headers) {
          try {
            headers.put(CLIENT_SERIAL, peerSerial(getAttributes().get(Grpc.TRANSPORT_ATTR_SSL_SESSION)));
          } catch (SSLPeerUnverifiedException error) {
            throw new IllegalStateException(error);
          }
          super.sendHeaders(headers);
        }
      }, request);
    }
  }

  /** The message, and that of the first cause, which says what TLS had against it. */
  private static String why(Throwable error) {
    Throwable cause = error;
    while (cause.getCause() != null) {
      cause = cause.getCause();
    }
    return error.getMessage() + ": " + cause.getMessage();
  }

  private static String peerSerial(SSLSession session) throws SSLPeerUnverifiedException {
    return ((X509Certificate) session.getPeerCertificates()[0]).getSerialNumber().toString(16);
  }

  private Main() {}
}
