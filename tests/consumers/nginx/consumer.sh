# nginx as a server and as a client, reloaded by onRotate; curl asks both.
mount -t overlay -o "lowerdir=$installed/nginx/usr/sbin:/usr/sbin" overlay /usr/sbin

start() {
  serve nginx nginx
  await 20 'nginx' port_open 8443
}

load() {
  local said
  while sleep 0.2; do
    if said=$(bash "$here/curl/request.sh" "$volumes/client" 2>&1); then
      echo "ok $said"
    else
      echo "failed $(tail -n 3 <<<"$said" | tr '\n' ' ')"
    fi
  done
}
