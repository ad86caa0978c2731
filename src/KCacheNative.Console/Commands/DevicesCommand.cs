using System.CommandLine;
using System.Reflection;
using KCacheNative.Console.Options;
using KCacheNative.Console.Output;
using KCacheNative.Runtime;
using Spectre.Console;

namespace KCacheNative.Console.Commands;

/// <summary>`kcache devices`: the backends that work on this machine, and why the others do not.</summary>
internal static class DevicesCommand
{
    internal static Command Create(Terminal terminal)
    {
        var json = OptionFactory.Flag("--json", "Print JSON alone");
        var command = new Command("devices", "List the backends found on this machine, and for those that were not, why") { json };
        command.SetAction(call =>
        {
            var report = Probe();
            if (call.GetValue(json))
                ConsoleJson.Write(terminal.Out, report);
            else
                Show(terminal.OutView, report);
            return report.Backends.Any(backend => backend.Found) ? ExitCode.Success : ExitCode.Failure;
        });
        return command;
    }

    private static DevicesReport Probe()
    {
        string version = typeof(DevicesCommand).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion.Split('+')[0] ?? "";
        string? native;
        try
        {
            native = ComputeContext.NativeVersion;
        }
        catch (KCacheException)
        {
            native = null; // the entry of each backend tells why
        }

        return new DevicesReport(version, native, [Probe("cpu", Backend.Cpu), Probe("cuda", Backend.Cuda)]);
    }

    private static BackendReport Probe(string name, Backend backend)
    {
        try
        {
            using var context = new ComputeContext(new ContextOptions { Backend = backend });
            var info = context.Info;
            return new BackendReport(name, true, info.Device, info.InstructionSet, backend == Backend.Cpu ? info.Threads : null, null);
        }
        catch (KCacheException problem)
        {
            return new BackendReport(name, false, null, null, null, problem.Message);
        }
    }

    private static void Show(IAnsiConsole view, DevicesReport report)
    {
        if (report.NativeVersion is null)
        {
            view.WriteLine($"kcache {report.Version}: {report.Backends[0].Problem}");
            return;
        }

        view.WriteLine($"kcache {report.Version}, native library {report.NativeVersion}");
        var table = Tables.Create("Backend", "Found", "What");
        foreach (var backend in report.Backends)
        {
            string what = backend.Found
                ? $"{backend.Device} ({backend.InstructionSet}{(backend.Threads is { } threads ? $", {threads} threads" : "")})"
                : backend.Problem!;
            table.AddRow(Tables.Cell(backend.Backend), Tables.Cell(backend.Found ? "yes" : "no"), Tables.Cell(what));
        }

        view.Write(table);
    }
}
