# Echoes messages; says when a connection ends. `/refused` is refused, `/chat` speaks the subprotocol `chat`.
import asyncio
import http
import sys
import websockets


async def refuse(path, headers):
    if path == "/refused":
        return http.HTTPStatus.FORBIDDEN, [("X-Why", "not-you")], b"no\n"
    print("asked", path, "key" if "Sec-WebSocket-Key" in headers else "keyless", flush=True)


async def echo(socket, path=None):
    try:
        async for message in socket:
            if message == "hang up":
                socket.transport.abort()
            else:
                await socket.send(message)
    except websockets.ConnectionClosed:
        pass
    print("closed", socket.close_code, flush=True)


async def main():
    async with websockets.serve(
        echo, "127.0.0.1", int(sys.argv[1]), subprotocols=["chat"], max_size=None, process_request=refuse
    ):
        await asyncio.Future()


asyncio.run(main())
