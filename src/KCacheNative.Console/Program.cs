System.Console.WriteLine("kcache");
