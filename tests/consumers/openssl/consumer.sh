# openssl s_server and s_client. Neither reads a file twice, so both are started for each request.
start() { :; }

load() {
  local said
  while sleep 0.2; do
    if said=$(timeout 10 bash "$here/openssl/pair.sh" "$volumes/server" "$volumes/client" 2>&1); then
      echo "ok $(tail -n 1 <<<"$said")"
    else
      echo "failed $(tail -n 3 <<<"$said" | tr '\n' ' ')"
    fi
  done
}
