# Calls the server of grpc_server.py: target, a CA or `-`, what to try.
import signal
import sys
import time
import grpc

target, ca, what = sys.argv[1:4]
# Before there are threads, which inherit it.
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
options = [("grpc.default_authority", "a.example"), ("grpc.max_receive_message_length", -1),
           ("grpc.enable_http_proxy", 0), ("grpc.ssl_target_name_override", "a.example")]
if ca == "-":
    channel = grpc.insecure_channel(target, options)
else:
    channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(open(ca, "rb").read()), options)
unary = channel.unary_unary("/a.Test/Unary")
server_stream = channel.unary_stream("/a.Test/ServerStream")
client_stream = channel.stream_unary("/a.Test/ClientStream")
both = channel.stream_stream("/a.Test/Both")


def refused(call, code, *details):
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() == code, (error.code(), error.details())
        for part in details:
            assert part in error.details(), error.details()
        return error
    raise SystemExit("was not refused")


def kinds():
    answer, call = unary.with_call(b"a", metadata=(("x-tag", "mine"),))
    assert answer == b"a!"
    assert ("x-first", "1") in call.initial_metadata(), call.initial_metadata()
    trailing = [tuple(item) for item in call.trailing_metadata()]
    assert ("x-last", "2") in trailing and ("x-last-bin", b"\x00\xff") in trailing, trailing
    large = b"x" * (3 << 20)
    assert unary(large) == large + b"!"
    assert [message for message in server_stream(b"3")] == [b"0", b"1", b"2"]
    assert client_stream(iter([b"ab", b"", b"cde"])) == b"5"
    assert client_stream(iter([])) == b"0"
    # A conversation: each answer is awaited before the next question.
    asked = []
    answers = None

    def questions():
        for number in range(20):
            while len(asked) < number:
                time.sleep(0.001)
            yield str(number).encode()

    for number, answer in enumerate(both(questions())):
        assert answer == b"%d!" % number
        asked.append(answer)
    assert len(asked) == 20
    error = refused(lambda: unary(b"fail"), grpc.StatusCode.FAILED_PRECONDITION, "not now: ümlaut")
    assert ("x-last", "2") in [tuple(item) for item in error.trailing_metadata()]


def deadlines():
    # The channel is open then, and the deadline is the call's alone.
    assert unary(b"a") == b"a!"
    refused(lambda: unary(b"sleep", timeout=2), grpc.StatusCode.DEADLINE_EXCEEDED)
    refused(lambda: list(server_stream(b"2", timeout=2)), grpc.StatusCode.DEADLINE_EXCEEDED)


def cancels():
    call = server_stream(b"2")
    assert next(call) == b"0"
    call.cancel()
    future = unary.future(b"sleep")
    # Whoever runs this sees when the server has the call, and says so.
    signal.sigwait([signal.SIGUSR2])
    future.cancel()


def long():
    def questions():
        for _ in range(4):
            yield b"q"
            time.sleep(0.5)

    assert list(both(questions())) == [b"q!"] * 4


def unavailable():
    refused(lambda: unary(b"a", timeout=20), grpc.StatusCode.UNAVAILABLE)


{"kinds": kinds, "deadlines": deadlines, "cancels": cancels, "long": long, "unavailable": unavailable}[what]()
print("ok", flush=True)
channel.close()
