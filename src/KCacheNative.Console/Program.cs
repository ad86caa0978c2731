using KCacheNative.Console;

return await Application.RunAsync(args, Terminal.OfProcess());
