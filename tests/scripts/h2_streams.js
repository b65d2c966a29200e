// A server of HTTP/2 in the clear and of HTTP/1.1 that says who asks and who leaves.
const http = require('http');
const http2 = require('http2');
const [, , port, port1] = process.argv;
const serve = (request, response) => {
  const path = request.url.split('?')[0];
  let done = false;
  console.log('asked ' + request.url);
  request.on('error', () => {});
  response.on('error', () => {});
  response.on('finish', () => { done = true; });
  const left = () => { if (!done) { done = true; console.log('left ' + request.url); } };
  response.on('close', left);
  request.on('aborted', left);
  if (path === '/stream') {
    response.writeHead(200);
    response.write('first');
  } else if (path === '/upload') {
    request.resume();
    response.writeHead(200);
    response.write('first');
  } else if (path === '/break') {
    response.writeHead(200);
    response.write('first');
    setTimeout(() => {
      done = true;
      if (response.stream) response.stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
      else request.socket.destroy();
    }, 50);
  }
};
http.createServer(serve).listen(Number(port1), '127.0.0.1');
http2.createServer(serve).listen(Number(port), '127.0.0.1');
