# Certificates of every kind, good and bad, in the folder of an authority: root.crt and root.key. Sourced behind `leaf`.
any='subjectAltName=DNS:*.verdicts.test'
{
    openssl genrsa -out rsa.key 2048
    openssl genrsa -out rsa1024.key 1024
    openssl genpkey -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048 -out rsapss.key
} 2>/dev/null &
openssl genrsa -out i4096.key 4096 2>/dev/null &
openssl dhparam -dsaparam -out dh1024.pem 1024 2>/dev/null &
openssl dhparam -dsaparam -out dh2048.pem 2048 2>/dev/null &
openssl ecparam -name secp384r1 -genkey -noout -out i384.key
openssl ecparam -name secp384r1 -genkey -noout -out p384.key
openssl ecparam -name secp521r1 -genkey -noout -out p521.key
openssl genpkey -algorithm ed25519 -out ed25519.key
wait

# authority NAME EXTENSIONS: signed by the root.
authority() {
    [ -e "$1.key" ] || openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"
    openssl req -new -key "$1.key" -subj "/CN=Authority $1" -out "$1.csr"
    printf 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n%b\n' "${2-}" >"$1.ext"
    openssl x509 -req -in "$1.csr" -CA root.crt -CAkey root.key -set_serial "0x$(openssl rand -hex 8)" -days 20 -extfile "$1.ext" -out "$1.crt"
}
# dated NAME START END: what `leaf` made, signed once more with other dates.
dated() {
    touch index.txt
    printf '[ca]\ndefault_ca=x\n[x]\ndatabase=index.txt\nunique_subject=no\nnew_certs_dir=.\nrand_serial=yes\ndefault_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n' >ca.cnf
    openssl ca -batch -notext -config ca.cnf -cert root.crt -keyfile root.key -in "$1.csr" -extfile "$1.ext" -startdate "$2" -enddate "$3" -out "$1.crt"
}
# chain NAME [AUTHORITY…]
chain() {
    name=$1; shift
    cp "$name.key" "$name.pem"; cat "$name.crt" >>"$name.pem"
    for above; do cat "$above.crt" >>"$name.pem"; done
}

leaf good root "$any"; chain good
cp rsa.key goodrsa.key; leaf goodrsa root "$any"; chain goodrsa
leaf expired root "$any"; dated expired 20200101000000Z 20210101000000Z; chain expired
leaf early root "$any"; dated early 20400101000000Z 20410101000000Z; chain early
leaf otherhost root 'subjectAltName=DNS:other.test'; chain otherhost
leaf partial root 'subjectAltName=DNS:par*.verdicts.test'; chain partial
leaf namely root "subjectAltName=DNS:*.verdicts.test,$ADDRESSES"; chain namely
leaf onlyname.verdicts.test root ''; chain onlyname.verdicts.test
leaf nameless root ''; chain nameless
leaf noeku root "$any" NOEKU; chain noeku
leaf clienteku root "$any\nextendedKeyUsage=clientAuth"; chain clienteku
leaf sha1 root "$any" -sha1; chain sha1
cp rsa1024.key short.key; leaf short root "$any"; chain short
cp rsapss.key pss.key; leaf pss root "$any"; chain pss
leaf p521 root "$any"; chain p521
leaf ed25519 root "$any"; chain ed25519
authority i384; leaf p384 i384 "$any"; chain p384 i384
authority i4096; leaf under4096 i4096 "$any"; chain under4096 i4096
authority between; leaf incomplete between "$any"; chain incomplete; leaf whole between "$any"; chain whole between
leaf disordered between "$any"; chain disordered root otherhost between
authority narrow 'nameConstraints=critical,permitted;DNS:other.test'; leaf outside narrow "$any"; chain outside narrow
authority lapsed; dated lapsed 20200101000000Z 20210101000000Z; leaf underlapsed lapsed "$any"; chain underlapsed lapsed
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj '/CN=Root of Nobody' -days 30 -keyout stranger.key -out stranger.crt
leaf strange stranger "$any"; chain strange
openssl req -x509 -key good.key -subj '/CN=self' -addext "$any" -addext basicConstraints=critical,CA:FALSE -days 20 -out self.crt; cp good.key self.key; chain self
openssl req -x509 -key good.key -subj '/CN=own' -addext "$any" -days 20 -out own.crt; cp good.key own.key; chain own
cat own.crt >>root.pem; cat own.crt >>bundle.pem
leaf client root 'extendedKeyUsage=clientAuth'; chain client
