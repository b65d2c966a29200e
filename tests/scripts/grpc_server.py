# A gRPC server without generated code: messages are bytes. Says what it was told and how calls end.
import sys
import time
from concurrent import futures
import grpc


def watched(name, context):
    context.add_callback(lambda: print("over", name, context.code() or "-", flush=True))
    told = dict(context.invocation_metadata())
    print("called", name, told.get("x-tag", "-"), flush=True)
    context.send_initial_metadata((("x-first", "1"),))
    context.set_trailing_metadata((("x-last", "2"), ("x-last-bin", b"\x00\xff")))


def unary(request, context):
    watched("sleep" if request == b"sleep" else "unary", context)
    if request == b"fail":
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now: ümlaut")
    if request == b"sleep":
        while context.is_active():
            time.sleep(0.01)
    return request + b"!"


def server_stream(request, context):
    watched("server_stream", context)
    for number in range(int(request)):
        yield str(number).encode()
    if request == b"3":
        return
    while context.is_active():
        time.sleep(0.01)


def client_stream(requests, context):
    watched("client_stream", context)
    return str(sum(len(request) for request in requests)).encode()


def both(requests, context):
    watched("both", context)
    for request in requests:
        yield request + b"!"


HANDLERS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
    "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
    "Both": grpc.stream_stream_rpc_method_handler(both),
}
server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.max_receive_message_length", -1)])
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("a.Test", HANDLERS),))
server.add_insecure_port("127.0.0.1:" + sys.argv[1])
server.start()
server.wait_for_termination()
