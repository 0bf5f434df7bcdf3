# nginx as a server and as a client, reloaded by onRotate; curl asks both.
# shellcheck shell=bash disable=SC2154  # world.sh sets here, volumes and installed
mount -t overlay -o "lowerdir=$installed/nginx/usr/sbin:/usr/sbin" overlay /usr/sbin

start() {
  serve nginx nginx
  await 20 'nginx' port_open 8443
}

load() {
  ask_forever bash "$here/curl/request.sh" "$volumes/$1"
}
