# grpc-java with AdvancedTls. It looks at the files once a minute.
# shellcheck disable=SC2034  # for world.sh
slow=1

start() { :; } # server and client are one program

load() {
  load_stale "$volumes"
}

load_stale() {
  java -Xmx128m -XX:TieredStopAtLevel=1 -XX:-UsePerfData -cp "$installed/java/consumer.jar:$installed/java/lib/*" \
    consumers.Main "$1/server" "$1/client"
}
