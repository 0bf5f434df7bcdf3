# grpc-java with AdvancedTls. It looks at the files once a minute.
# shellcheck shell=bash disable=SC2154  # world.sh sets here, volumes and installed
# shellcheck disable=SC2034  # for world.sh
slow=1

start() { :; } # server and client are one program

load() {
  local of=${2:-$volumes}
  java -Xmx128m -XX:TieredStopAtLevel=1 -XX:-UsePerfData -cp "$installed/java/consumer.jar:$installed/java/lib/*" \
    consumers.Main "$of/server" "$of/$1"
}
