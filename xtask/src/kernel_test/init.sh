#!/bin/busybox sh
# First process of a guest of `cargo xtask kernel-test`: runs what the harness put beside it and says how each
# part ended. It judges nothing: the harness reads the serial console.
# By their paths: this shell takes its own `ip` and `setpriv` first, which know less.
IP=/tools/ip
SETPRIV=/tools/setpriv
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs tmp /tmp
echo "@@ kernel $(uname -r)"

GIVEN=+bpf,+net_admin
with() {
    capabilities=$1
    shift
    $SETPRIV --bounding-set="-all,$capabilities" --inh-caps=-all --no-new-privs "$@"
}

section() {
    part=$1
    shift
    echo "@@ begin $part"
    "$@" 2>&1
    echo "@@ end $part $? $(cut -d' ' -f1 /proc/uptime)"
}

modules() {
    for file in /modules/*; do
        cp "$file" /tmp
    done
    unxz /tmp/*.ko.xz 2>/dev/null
    for name in $(cat /modules.order); do
        insmod "/tmp/$name.ko" || return 1
    done
}

# gate NAME CAPABILITIES ATTACH INTERFACE: a gate alone on one interface, a packet from a stranger, its status.
gate() {
    folder=/tmp/$1
    mkdir "$folder"
    sed -e "s,@ATTACH@,$3," -e "s,@INTERFACE@,$4," -e "s,@FOLDER@,$folder," -e "s,@PINS@,/sys/fs/bpf/$1," \
        /gate.toml > "$folder/gate.toml"
    with "$2" sallyport gate run --config "$folder/gate.toml" > "$folder/log" 2>&1 &
    running=$!
    answered=1
    tries=0
    # Until it answers, or ends, or two minutes have passed: a verifier that is emulated takes its time.
    while [ $tries -lt 600 ] && kill -0 $running 2>/dev/null; do
        if sallyport gate status --format json --config "$folder/gate.toml" > "$folder/status" 2>/dev/null; then
            answered=0
            break
        fi
        usleep 200000
        tries=$((tries + 1))
    done
    if [ $answered = 0 ] && [ "$4" = g0 ]; then
        $IP netns exec out nc -w 1 192.0.2.1 443 < /dev/null
        sallyport gate status --format json --config "$folder/gate.toml" > "$folder/status"
    fi
    kill $running 2>/dev/null
    wait $running
    echo "gate ended with $?"
    # A line may hold the verifier's whole log, whose ends are what tells.
    cut -c-600 "$folder/log"
    echo "status:"
    cut -c-600 "$folder/status"
    sallyport gate off --offline --config "$folder/gate.toml"
    return $answered
}

network() (
    set -e
    $IP link set lo up
    mkdir -p /run/netns /var/run/netns
    $IP netns add out
    $IP link add g0 type veth peer name g1 netns out
    $IP address add 192.0.2.1/24 dev g0
    $IP link set g0 up
    $IP -n out address add 192.0.2.2/24 dev g1
    $IP -n out link set g1 up
    $IP tuntap add dev t0 mode tun
    $IP link set t0 up
)

section modules modules
section network network
section probe with $GIVEN gate_packets --test-threads=1 --nocapture the_verifier
section gate-auto gate gate-auto $GIVEN,+perfmon auto g0
section gate-tc gate gate-tc $GIVEN,+perfmon tc g0
section gate-tun gate gate-tun $GIVEN,+perfmon auto t0
section gate-two gate gate-two $GIVEN auto g0
export @FUZZ@
section packets with $GIVEN,+perfmon gate_packets --test-threads=1 --nocapture
echo "@@ done"
echo o > /proc/sysrq-trigger
# The power goes off while this waits.
sleep 60
