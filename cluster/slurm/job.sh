# From here on the script is the same for all profiles. It runs on the first of the job's nodes, which has Ray's head.
# How it ends:
# - The command ends: Ray is stopped on all nodes, and the job ends with the command's exit code.
# - Slurm warns, because the time is nearly up or the job is to be preempted: this shell alone gets SIGTERM, and the job's
#   state is still RUNNING. The command gets SIGTERM too, so that it can record what it did; then the job is requeued, and
#   the same command continues. `scancel --signal=TERM --batch JOB` does the same by hand.
#   A preemption with a GraceTime sends SIGTERM to the steps instead; the first node's task passes it on to this shell.
# - Slurm ends the job: it was cancelled (`scancel JOB`), requeued by Slurm itself, or its time is up. Slurm sends SIGTERM
#   to all processes, SIGKILL after its KillWait (30 s), and the job's state is no longer RUNNING. Nothing is requeued here:
#   a cancelled job stays cancelled, and one that was preempted is in the queue already.
# - A second warning: the command gets SIGTERM again, and the job isn't requeued.
set -u
PATH="${python%/*}:$PATH:/usr/sbin:/sbin"
clusters="$storage/.clusters"
token="$clusters/$name-$SLURM_JOB_ID.token"
address_file="$clusters/$name.json"
failures="$clusters/$name-$SLURM_JOB_ID.failed" # .NODE, a file of each node on which Ray did not start
gloo=${GLOO_SOCKET_IFNAME:-} nccl=${NCCL_SOCKET_IFNAME:-}
export PATH
# What the submitter's environment says of other clusters.
unset RAY_ADDRESS RAY_API_SERVER_ADDRESS RAY_AUTH_TOKEN RAY_TMPDIR

say() { echo "$(date '+%F %T') $SLURMD_NODENAME: $*"; }
fail() {
    say "$*" >&2
    [ -z "${failure:-}" ] || : >"$failure"
    exit 1
}

# The first port of a node. Jobs that share machines get ports of their own, by their ids; so do the first node and the
# others, since Slurm can run several nodes on one machine. Below 32768, where Linux assigns ports by itself.
first_port() {
    local blocks=$(((32768 - 10240) / ports / 2 * 2))
    echo $((10240 + (2 * SLURM_JOB_ID + ($1 > 0)) % blocks * ports))
}

# The address of this node: that of the interface, or the one by which Slurm reaches the node. Where that is a name which
# the node itself takes for 127.0.1.1, as Debian's and Ubuntu's do, it's the address of the route to the head.
find_address() {
    local known found
    if [ -n "$interface" ]; then
        ip -o -4 address show dev "$interface" | awk '{ sub("/.*", "", $4); print $4; exit }'
        return
    fi
    known=$(scontrol show node --oneliner "$SLURMD_NODENAME" | sed -n 's/.* NodeAddr=\([^ ]*\) .*/\1/p')
    found=$(getent ahostsv4 "$known" | awk '{ print $1; exit }')
    if [ "$found" != "$known" ] && [[ "$found" = 127.* || -z "$found" ]]; then
        if [ -n "${head:-}" ]; then
            found=$(ip -o -4 route get "$head" | sed -n 's/.* src \([^ ]*\).*/\1/p')
        else
            found=$(hostname -I | awk '{ print $1 }')
        fi
    fi
    echo "$found"
}

find_interface() {
    local found
    found=$(ip -o -4 address show | awk -v address="$1" '{ sub("/.*", "", $4); if ($4 == address) { print $2; exit } }')
    echo "${found:-$(ip -o -4 route get "$1" | sed -n 's/.* dev \([^ ]*\).*/\1/p')}"
}

set_variables() {
    first=$(first_port "$SLURM_NODEID")
    address=$(find_address)
    [ -n "$address" ] || fail "found no IPv4 address here${interface:+ on interface $interface}; set \`interface\`"
    # What the profile's or the submitter's environment says is kept; otherwise each node has its own.
    GLOO_SOCKET_IFNAME=${gloo:-$(find_interface "$address")}
    NCCL_SOCKET_IFNAME=${nccl:-$GLOO_SOCKET_IFNAME}
    # The last quarter of the ports is not Ray's, so that no process group takes a port from a worker of Ray.
    DECRED_WORKER_PORTS="$((first + ports * 3 / 4))-$((first + ports - 1))"
    AUTOSCALER_METRIC_PORT=$((first + 9)) DASHBOARD_METRIC_PORT=$((first + 10))
    export GLOO_SOCKET_IFNAME NCCL_SOCKET_IFNAME DECRED_WORKER_PORTS AUTOSCALER_METRIC_PORT DASHBOARD_METRIC_PORT
    # Ray opens thousands of files and sockets; more than the hard limit cannot be had.
    ulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -Hn)"
}

listens() { (exec 4<>"/dev/tcp/$1/$2") 2>/dev/null; }

# Processes of this node's Ray, by a mark in their environment: jobs of Ray have process groups of their own.
find_processes() { grep -lszFx "DECRED_CLUSTER=$mark" /proc/[0-9]*/environ | cut -d/ -f3; }

# End this node's Ray, and nothing else: never by plain `ray stop`, which ends the Rays of others too.
end_ray() {
    local left
    kill -TERM -- "-$ray" 2>/dev/null
    for _ in {1..15}; do
        kill -0 -- "-$ray" 2>/dev/null || break
        sleep 0.2
    done
    kill -KILL -- "-$ray" 2>/dev/null
    left=$(find_processes)
    # shellcheck disable=SC2086 # each id is an argument
    [ -z "$left" ] || kill -KILL $left 2>/dev/null
}

# Asked for again where a second signal to this process group has ended scontrol; RUNNING where Slurm does not answer,
# and while it is SIGNALING.
job_state() {
    local state=''
    for _ in 1 2 3; do
        state=$(scontrol show job --oneliner "$SLURM_JOB_ID" | sed -n 's/.* JobState=\([^ ]*\) .*/\1/p')
        [ -z "$state" ] || break
    done
    [ "$state" != SIGNALING ] || state=RUNNING
    echo "${state:-RUNNING}"
}

# Warn the batch shell where Slurm has warned the steps only.
pass_on_signal() {
    [ "$SLURM_NODEID" = 0 ] && [ "$(job_state)" = RUNNING ] && setsid scancel --batch --signal=TERM "$SLURM_JOB_ID"
}

# A task of the job's step, one on each node: Ray runs until the task's input ends, as it also does when this shell dies.
run_node() {
    set -u
    local ray input folder mark options port logs failure="$failures.$SLURMD_NODENAME" code=0 signalled=''
    exec 3<&0 </dev/null
    # Ray is not ended by a signal, but when this shell's input ends: after the command, which needs it until then.
    trap 'signalled=yes; pass_on_signal' TERM
    [ -r "$RAY_AUTH_TOKEN_PATH" ] ||
        fail "cannot read $RAY_AUTH_TOKEN_PATH; mount the storage on this node, or leave the node out with --exclude"
    set_variables
    options=(
        --disable-usage-stats "--node-ip-address=$address" "--node-name=$SLURMD_NODENAME"
        "--num-cpus=$cpus" "--num-gpus=$gpus" --object-store-memory=1000000000
        "--object-manager-port=$((first + 3))" "--node-manager-port=$((first + 4))"
        "--dashboard-agent-listen-port=$((first + 5))" "--dashboard-agent-grpc-port=$((first + 6))"
        "--runtime-env-agent-port=$((first + 7))" "--metrics-export-port=$((first + 8))"
        "--min-worker-port=$((first + 16))" "--max-worker-port=$((first + ports * 3 / 4 - 1))"
    )
    if [ "$SLURM_NODEID" = 0 ]; then
        options+=(
            --head "--port=$first" "--dashboard-host=$address" "--dashboard-port=$((first + 1))"
            "--ray-client-server-port=$((first + 2))"
        )
    else
        options+=("--address=$head:$head_port")
    fi
    for port in {0..8}; do
        listens "$address" $((first + port)) &&
            fail "port $((first + port)) is another program's; submit again, for a new job has other ports"
    done
    until [ "$SLURM_NODEID" = 0 ] || listens "$head" "$head_port"; do
        [ "$SECONDS" -lt "$wait_seconds" ] || fail "the head at $head:$head_port doesn't answer"
        sleep 1
    done
    # A folder of this job's own, and none is left of a job that was killed and comes back to this node.
    rm -rf -- "$temp/r$SLURM_JOB_ID.$SLURM_NODEID".*
    folder=$(mktemp -d "$temp/r$SLURM_JOB_ID.$SLURM_NODEID.XXXX") || fail "cannot write to $temp"
    mark="$name/$SLURM_JOB_ID/$SLURM_NODEID"
    DECRED_CLUSTER="$mark" setsid "${python%/*}/ray" start --block "${options[@]}" "--temp-dir=$folder" \
        >"$folder/start.log" 2>&1 3<&- &
    ray=$!
    (trap '' TERM && exec cat <&3 >/dev/null) &
    input=$!
    disown "$ray" "$input" # or bash writes that they were killed
    while kill -0 "$ray" 2>/dev/null && kill -0 "$input" 2>/dev/null; do sleep 0.5; done
    if [ -z "$signalled" ] && ! kill -0 "$ray" 2>/dev/null; then
        logs="$clusters/$name-$SLURM_JOB_ID-$SLURMD_NODENAME"
        say "Ray has ended; its logs are in $logs. Its last lines:" >&2
        tail -n 15 "$folder/start.log" >&2
        mkdir -p "$logs"
        cp -r "$folder/start.log" "$folder"/session_*/logs "$logs" 2>/dev/null
        : >"$failure"
        code=1
    fi
    kill -KILL "$input" 2>/dev/null
    end_ray
    rm -rf -- "$folder"
    exit "$code"
}

# Ends with 0 when Ray is up on all nodes, and otherwise names the nodes on which it isn't.
wait_for_nodes() {
    exec "$python" -P - "$head:$head_port" "$wait_seconds" "${nodes[@]}" <<'END'
import socket, sys, time

head, seconds, *names = sys.argv[1:]
deadline = time.monotonic() + float(seconds)
host, port = head.rsplit(":", 1)
missing = names
while time.monotonic() < deadline:
    try:
        socket.create_connection((host, int(port)), 2).close()
        break
    except OSError:
        time.sleep(0.5)
else:
    sys.exit(f"Ray's head isn't up on {names[0]} after {seconds} s")
import ray

ray.init(address=head, log_to_driver=False, logging_level="error")
while missing and time.monotonic() < deadline:
    up = {node["NodeName"] for node in ray.nodes() if node["Alive"]}
    missing = [name for name in names if name not in up]
    time.sleep(0.5 if missing else 0)
if missing:
    sys.exit(f"Ray isn't up after {seconds} s on: {', '.join(missing)}; leave such nodes out with --exclude")
END
}

# The exit code of a child, in `code`. Not by `wait` alone: where a signal and the child's end come together, bash 5.2 may
# wait for a child that has ended until all others have.
wait_for() {
    while kill -0 "$1" 2>/dev/null; do sleep 0.5; done
    wait "$1"
    code=$?
}

signals=0 warned=no child='' code=0
on_term() {
    local state
    signals=$((signals + 1))
    state=$(job_state)
    if [ "$state" = RUNNING ]; then
        say "warned by Slurm"
        if [ "$signals" = 1 ]; then warned=yes; else warned=no; fi
        # Otherwise Slurm itself has sent it SIGTERM, and a study that gets it twice stops at once.
        [ -z "$child" ] || kill -TERM "$child" 2>/dev/null
    else
        say "ended by Slurm, in state $state"
        warned=no
    fi
}
trap on_term TERM

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
[ "${#nodes[@]}" -gt 0 ] || fail "scontrol does not list the nodes of the job"
say "job $SLURM_JOB_ID begins${SLURM_RESTART_COUNT:+, restart $SLURM_RESTART_COUNT,} on ${nodes[*]}"
[ -x "${python%/*}/ray" ] || fail "there is no ${python%/*}/ray; \`python\` must be in an environment with Ray"
# The token goes through a file that only its user reads; on a command line all users of the node would see it.
(umask 077 && { [ -d "$clusters" ] || mkdir "$clusters"; } && od -An -N32 -v -tx1 /dev/urandom | tr -d ' \n' >"$token") ||
    fail "cannot write to $clusters; it has to be yours, on a file system that all nodes share"
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$token"
set_variables
head=$address head_port=$first

# Ray runs as long as file descriptor 3 is open, which is the input of the step's tasks.
task=$(
    declare -p name python temp interface gloo nccl cpus gpus wait_seconds ports clusters failures head head_port
    declare -f say fail first_port find_address find_interface set_variables listens find_processes end_ray
    declare -f job_state pass_on_signal run_node
)
exec 3> >(
    trap - TERM
    exec srun --export=ALL --overlap --nodes="${#nodes[@]}" --ntasks="${#nodes[@]}" --ntasks-per-node=1 \
        --cpus-per-task="$cpus" --kill-on-bad-exit=0 --wait=0 bash -c "$task"$'\nrun_node'
)
ray=$!

wait_for_nodes 3>&- &
child=$!
failed() { compgen -G "$failures.*" >/dev/null; }
while kill -0 "$child" 2>/dev/null && kill -0 "$ray" 2>/dev/null && ! failed; do sleep 0.5; done
if failed || { kill -0 "$child" 2>/dev/null && [ "$signals" = 0 ]; }; then
    say "Ray did not start on all nodes; the lines above name them and say why" >&2
    kill "$child" 2>/dev/null
    wait_for "$child"
    code=1
else
    wait_for "$child"
fi
child=''

if [ "$code" = 0 ] && [ "$signals" = 0 ]; then
    (umask 077 && printf '{"dashboard": "http://%s:%s", "head": "%s:%s", "token_file": "%s", "job": "%s"}\n' \
        "$head" $((head_port + 1)) "$head" "$head_port" "$token" "$SLURM_JOB_ID" >"$address_file.$SLURM_JOB_ID" &&
        mv "$address_file.$SLURM_JOB_ID" "$address_file")
    say "Ray is up on ${#nodes[@]} nodes: head $head:$head_port, dashboard http://$head:$((head_port + 1))"
    [ "${#command[@]}" -gt 0 ] || command=(sleep infinity) # the cluster is held
    starting=$(mktemp)
    (rm -f -- "$starting" && RAY_ADDRESS="$head:$head_port" exec "${command[@]//'{head}'/$head:$head_port}" 3>&-) &
    started=$!
    # A child of bash loses signals until it runs its first command: those that came until then are sent again.
    while [ -e "$starting" ] && kill -0 "$started" 2>/dev/null; do sleep 0.1; done
    rm -f -- "$starting"
    child=$started
    [ "$signals" = 0 ] || kill -TERM "$child" 2>/dev/null
    wait_for "$child"
    child=''
    say "the command has ended with exit code $code"
elif [ "$code" = 0 ]; then
    code=143 # warned before the command began
fi

# Before Ray ends, since Slurm may leave little time.
rm -f -- "$token" "$failures".*
grep -qsF "$token" "$address_file" && rm -f -- "$address_file"

exec 3>&-
for _ in {1..40}; do
    kill -0 "$ray" 2>/dev/null || break
    sleep 0.5
done
kill -TERM "$ray" 2>/dev/null && say "Ray did not end by itself within 20 s; Slurm kills it"
if [ "$warned" = yes ] && [ "$code" != 0 ] && [ "$requeue" = yes ]; then
    trap '' TERM
    say "requeued; Slurm starts it again after two minutes at the earliest"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
