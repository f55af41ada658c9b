#!/usr/bin/env bash
# docker/make_certificates.sh FOLDER [NAME ...]: certificates for compose.tls.yaml and docker/kubernetes, valid a year.
#
# NAME is a host name or address by which clients reach the servers, beside localhost. FOLDER gets cas/, scheduler/,
# worker/ and client/, each with certificate.pem, key.pem and the ca.pem that the servers' certificates are verified by,
# and authorities/ with the keys that sign. Clients have an authority of their own, so that none poses as a worker.
# NativeLink accepts X.509 version 3 with extendedKeyUsage only.
set -euo pipefail
umask 077

fail() { # EXIT_CODE SENTENCE
  echo "make_certificates: $2" >&2
  exit "$1"
}

[[ $# -ge 1 ]] || fail 2 "name the folder: docker/make_certificates.sh docker/certificates [NAME ...]"
folder="$1"
shift
[[ ! -e "$folder" ]] || fail 2 "$folder exists: remove it to make new certificates, and restart all services"
command -v openssl > /dev/null || fail 2 "openssl is not installed"
names="DNS:localhost,IP:127.0.0.1"
for name in "$@"; do
  [[ "$name" =~ ^[A-Za-z0-9.:-]+$ ]] || fail 2 "$name is neither a host name nor an address"
  if [[ "$name" == *:* || "$name" =~ ^[0-9.]+$ ]]; then names+=",IP:$name"; else names+=",DNS:$name"; fi
done

authorities="$folder/authorities"
mkdir -p "$authorities"
# The system's configuration would add extensions.
printf '[req]\ndistinguished_name = name\n[name]\n' > "$authorities/openssl.cnf"

certify() { # NAME CERTIFICATE KEY EXTENSION...
  local arguments=(-subj "/CN=$1" -out "$2" -keyout "$3") extension
  shift 3
  for extension in "$@"; do arguments+=(-addext "$extension"); done
  openssl req -x509 -config "$authorities/openssl.cnf" -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
    -sha256 -days 365 "${signer[@]}" "${arguments[@]}" 2> "$authorities/log" ||
    fail 1 "openssl: $(tail -n 1 "$authorities/log")"
}

signer=()
for authority in services clients; do
  certify "finetune-repo $authority" "$authorities/$authority.pem" "$authorities/$authority.key" \
    "basicConstraints=critical,CA:TRUE" "keyUsage=critical,keyCertSign,cRLSign"
done

for owner in cas scheduler worker client; do
  mkdir "$folder/$owner"
  cp "$authorities/services.pem" "$folder/$owner/ca.pem"
  authority=services
  extensions=("basicConstraints=critical,CA:FALSE" "keyUsage=critical,digitalSignature")
  case "$owner" in
    cas | scheduler)
      cp "$authorities/clients.pem" "$folder/$owner/clients_ca.pem"
      extensions+=("extendedKeyUsage=serverAuth,clientAuth" "subjectAltName=DNS:$owner,$names")
      ;;
    worker) extensions+=("extendedKeyUsage=clientAuth" "subjectAltName=DNS:worker") ;;
    client)
      authority=clients
      extensions+=("extendedKeyUsage=clientAuth" "subjectAltName=DNS:client")
      ;;
  esac
  signer=(-CA "$authorities/$authority.pem" -CAkey "$authorities/$authority.key")
  certify "$owner" "$folder/$owner/certificate.pem" "$folder/$owner/key.pem" "${extensions[@]}"
done
# The containers' user reads these through a mount. Others on this machine cannot: the folder above is closed to them.
chmod -R a+rX "$folder/cas" "$folder/scheduler" "$folder/worker"
rm -f "$authorities/log" "$authorities/openssl.cnf"
echo "made certificates in $folder. For .env:"
for line in CERTIFICATE=ca CLIENT_CERTIFICATE=certificate CLIENT_KEY=key; do
  echo "NATIVELINK_TLS_${line%=*}=$folder/client/${line#*=}.pem"
done
